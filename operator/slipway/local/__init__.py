"""Slipway without a cluster: the loop over the in-memory twin, and processes of this machine for pods.

What Kubernetes does around the operator is done here by small stand-ins, each level-triggered as the real one is:

    jobs          Job controller            Jobs -> pods, their ends -> conditions
    deployments   Deployment controller     Deployments -> pods, rolling updates, readiness -> status
    services      kube-proxy                a port of 127.0.0.1 for each port of a Service
    kubelet       kubelet                   pods -> processes (pod, container, probes, volumes, environment, images)
    snapshot      etcd                      all objects in one file of the state folder
"""
