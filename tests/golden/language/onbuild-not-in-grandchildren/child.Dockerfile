FROM onbuild-base
