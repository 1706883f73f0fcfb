FROM base
ADD git@x.invalid:a?tag=v1&tag=v2 /x/
