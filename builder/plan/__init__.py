"""From the syntax tree to a plan: which stages are needed, what each instruction becomes, and the keys of the cache. Pure."""
