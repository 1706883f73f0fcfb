FROM base
ADD git@x.invalid:a?tag= /x/
