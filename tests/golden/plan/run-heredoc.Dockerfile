FROM base
RUN <<END cat
x
END
