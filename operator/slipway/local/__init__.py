"""Slipway without a cluster: the loop over the in-memory twin, and processes of this machine for pods.

Small stand-ins do what Kubernetes does around the operator, each level-triggered as the real one is:

    controllers   Job and Deployment controller   make pods, update the status
    network       kube-proxy                      a port of 127.0.0.1 for each port of a Service
    kubelet       kubelet                         pods -> processes (pod, container, processes, environment, images)
    snapshot      etcd                            all objects in one file of the state folder
"""
