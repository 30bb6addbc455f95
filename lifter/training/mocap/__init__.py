"""Motion capture files of many formats as H36M-17 joints at 50 fps."""
