FROM base
COPY "a b.txt" 'c d' e /x/
