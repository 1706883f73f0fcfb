# escape=`
# Escape = `
FROM alpine
