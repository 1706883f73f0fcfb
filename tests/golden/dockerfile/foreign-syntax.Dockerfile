#!/usr/bin/env build
# syntax=r2d4/mocker:2 --x
FROM alpine
