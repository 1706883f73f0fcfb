FROM base
ADD --checksum=sha512:0 https://x.invalid/a /x
