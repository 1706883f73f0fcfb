gamma = 1
