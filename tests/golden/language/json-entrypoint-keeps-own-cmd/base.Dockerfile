FROM scratch
ENTRYPOINT ["/old"]
CMD ["of the base"]
