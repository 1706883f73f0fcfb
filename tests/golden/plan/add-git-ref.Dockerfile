FROM base
ARG REF=--upload-pack=touch
ADD https://u:p@x.invalid/a.git#$REF /x/
