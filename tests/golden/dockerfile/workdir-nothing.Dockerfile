FROM alpine
	WORKDIR 
