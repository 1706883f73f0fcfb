FROM base
ADD --checksum=sha256:0 https://x.invalid/a /x
