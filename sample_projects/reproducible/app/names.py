NAMES = {"ann", "bob", "eve"}
