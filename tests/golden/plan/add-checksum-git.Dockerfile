FROM base
ADD --checksum=v1.0 https://x.invalid/a.git /x
