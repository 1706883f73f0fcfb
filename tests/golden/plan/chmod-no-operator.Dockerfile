FROM base
ADD --chmod=rwx a /x
