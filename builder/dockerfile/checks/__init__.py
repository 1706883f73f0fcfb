"""Build checks: BuildKit's 22 rules, by its names and in its words (Docker's reference, "Build checks").

`rules` has what each one says and means; `textual` finds what the text alone shows, `builder.plan` the rest; `options` and
`verdict` decide what is told. A build without a finding imports neither the rules nor the verdict.
"""
