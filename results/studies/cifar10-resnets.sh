# A fixed pair: ResNet-20 as the local net, ResNet-56 as the server, only the rejectors are trained.
# needs: CIFAR-10; RESNETS, a folder with resnet20-12fca82f.th and resnet56-4bfd9763.th
# takes: 10 minutes on one core
need_data "$cifar10" CIFAR10
resnets=${RESNETS:-datasets}
for file in resnet20-12fca82f.th resnet56-4bfd9763.th; do
  need "$resnets/$file" "set RESNETS to its folder; from github.com/akamaster/pytorch_resnet_cifar10"
done
held=$run/cifar10-held.npz # both networks have seen all of train
if ! [ -f "$held" ]; then "$python" -m results.halved_test "$cifar10" "$held" --data_root "$data_root"; fi

nets=results/studies/resnet_cifar.py
for seed in "${seeds[@]}"; do
  split=(--dataset "$held" --save_dir "$run/seed-$seed" --split_seed "$seed" --seed "$seed" --resume
    --val_size 0.3 --rejector_val_size 0.6 ${everywhere[@]+"${everywhere[@]}"})
  "$python" train_localnet.py "${split[@]}" --epochs 0 --local_net $nets:resnet20 \
    --local_weights "$resnets/resnet20-12fca82f.th"
  "$python" train_edgenet_async.py "${split[@]}" --epochs 0 --edge_only --edge_net $nets:resnet56 \
    --edge_weights "$resnets/resnet56-4bfd9763.th"
done
each "$python" train_rejector.py --dataset "$held" --rejector_input features image both \
  ${everywhere[@]+"${everywhere[@]}"} ${fast_student[@]+"${fast_student[@]}"}
for seed in "${seeds[@]}"; do
  "$python" eval_all.py --dataset "$held" --save_dir "$run/seed-$seed" --resume \
    ${everywhere[@]+"${everywhere[@]}"}
done
tables=(cifar10-resnets)
