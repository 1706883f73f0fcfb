FROM onbuild
