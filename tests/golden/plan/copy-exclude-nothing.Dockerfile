FROM base
ADD --exclude=! a /x
