FROM base
COPY ["a", "b\t${x:?gone}", "/x/"]
