delta = 1
