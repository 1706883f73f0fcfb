FROM base
ADD --chown=1000:staff --link=true a /x
