zeta = 1
