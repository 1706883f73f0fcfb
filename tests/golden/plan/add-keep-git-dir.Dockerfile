FROM base
ADD --keep-git-dir a /x
