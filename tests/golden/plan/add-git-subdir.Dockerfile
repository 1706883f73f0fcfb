FROM base
ADD https://x.invalid/a.git#main:../../etc /x/
