# What `make install` puts on a machine.
