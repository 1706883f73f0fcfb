theta = 1
