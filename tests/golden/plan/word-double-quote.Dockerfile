# escape=`
FROM base
WORKDIR /12"
