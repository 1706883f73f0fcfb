eta = 1
