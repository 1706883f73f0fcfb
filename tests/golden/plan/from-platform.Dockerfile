FROM --platform=linux base
