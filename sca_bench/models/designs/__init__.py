"""SCA's designs, one file each: functions `(mixer settings, SAM's sizes) -> Design`."""
