FROM base
ADD git@x.invalid:a?tag=v1#v2 /x/
