FROM base
ADD --checksum=sha256:00 a.tar /x
