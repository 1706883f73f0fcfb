FROM base
ADD --keep-git-dir=false https://x.invalid/a.git?keep-git-dir=true /x/
