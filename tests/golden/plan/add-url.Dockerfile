FROM base
ARG HOST=x.invalid
ADD a https://$HOST/b /x/
