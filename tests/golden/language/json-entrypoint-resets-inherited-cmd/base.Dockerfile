FROM scratch
CMD ["of the base"]
