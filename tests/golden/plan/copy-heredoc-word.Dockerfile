FROM base
COPY <<-A <<B /x/
	fine
A
	first
  then ${x:-and
  more
B
