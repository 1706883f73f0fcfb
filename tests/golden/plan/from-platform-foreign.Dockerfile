FROM --platform=linux/s390x base
