FROM base
ADD u@-x:a /x/
