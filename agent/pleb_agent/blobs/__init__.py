"""Where blobs come from: peers, mirrors and the coordinator. Whatever they send is checked."""
