"""Other programs of Pleb-Cluster as child processes: started, watched, stopped, explained."""
