FROM base
ADD "https://x.invalid:80x/a" /x/
