"""`make bench`: what Slipway costs beside a bare client, measured on a real kube-apiserver and etcd."""
