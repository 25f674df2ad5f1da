module faultline/tools/tally

go 1.26.0
