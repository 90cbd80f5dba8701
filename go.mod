module lightcone

go 1.26
