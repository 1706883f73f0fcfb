FROM base
ADD git@x.invalid:a?submodules=no /x/
