FROM base
ADD a git@x.invalid:a?tga=v1 /x/
