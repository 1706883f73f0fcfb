beta = 1
