FROM base
ADD --checksum=abcdef2 git@x.invalid:a?checksum=abcdef1 /x/
