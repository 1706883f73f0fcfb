FROM busybox
ONBUILD ENV FROM_TRIGGER=1
ONBUILD COPY app.txt /out/
ONBUILD RUN cat /out/app.txt >> /out/order && echo $FROM_TRIGGER >> /out/order
