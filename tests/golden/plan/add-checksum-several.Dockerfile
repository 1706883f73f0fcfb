FROM base
ADD --checksum=abc http://x.invalid/a.git b /x/
