epsilon = 1
